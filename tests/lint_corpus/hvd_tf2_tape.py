"""TF2 MNIST on Horovod with a gradient tape."""
import tensorflow as tf
import horovod.tensorflow as hvd  # fault: horovod

hvd.init()  # fault: horovod
model = tf.keras.Sequential([tf.keras.layers.Flatten(), tf.keras.layers.Dense(128), tf.keras.layers.Dense(10)])
loss = tf.losses.SparseCategoricalCrossentropy(from_logits=True)
opt = tf.optimizers.Adam(0.001 * hvd.size())  # fault: horovod
(images, labels), _ = tf.keras.datasets.mnist.load_data()
dataset = tf.data.Dataset.from_tensor_slices((tf.cast(images / 255.0, tf.float32), labels)).batch(128)


@tf.function
def training_step(images, labels, first_batch):
    with tf.GradientTape() as tape:
        loss_value = loss(labels, model(images, training=True))
    tape = hvd.DistributedGradientTape(tape)  # fault: horovod
    grads = tape.gradient(loss_value, model.trainable_variables)
    opt.apply_gradients(zip(grads, model.trainable_variables))  # place: optimizer
    if first_batch:
        hvd.broadcast_variables(model.variables, root_rank=0)  # fault: horovod
        hvd.broadcast_variables(opt.variables, root_rank=0)  # fault: horovod
    return loss_value


for batch, (x, y) in enumerate(dataset.take(10000 // hvd.size())):  # fault: horovod
    loss_value = training_step(x, y, batch == 0)
    if batch % 10 == 0 and hvd.local_rank() == 0:  # fault: horovod
        print('Step #%d\tLoss: %.6f' % (batch, loss_value))
