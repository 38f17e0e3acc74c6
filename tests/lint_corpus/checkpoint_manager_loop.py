import tensorflow as tf

tf.random.set_seed(0)


class Net(tf.keras.Model):
    """A simple linear model."""

    def __init__(self):
        super(Net, self).__init__()
        self.l1 = tf.keras.layers.Dense(5)

    def call(self, x):
        return self.l1(x)


def toy_dataset():
    inputs = tf.range(10.)[:, None]
    labels = inputs * 5. + tf.range(5.)[None, :]
    return tf.data.Dataset.from_tensor_slices(dict(x=inputs, y=labels)).repeat().batch(2)


net = Net()
opt = tf.keras.optimizers.Adam(0.1)
ckpt = tf.train.Checkpoint(step=tf.Variable(1), optimizer=opt, net=net)
manager = tf.train.CheckpointManager(ckpt, './tf_ckpts', max_to_keep=3)
ckpt.restore(manager.latest_checkpoint)
for example in toy_dataset().take(50):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.abs(net(example['x']) - example['y']))
    opt.apply_gradients(zip(tape.gradient(loss, net.trainable_variables), net.trainable_variables))  # fault: optimizer
    ckpt.step.assign_add(1)
    if int(ckpt.step) % 10 == 0:
        manager.save()  # fault: write
