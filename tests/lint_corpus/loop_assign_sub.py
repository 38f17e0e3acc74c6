"""Linear regression with variables of one's own."""
import tensorflow as tf
import matplotlib.pyplot as plt

tf.random.set_seed(3)
x = tf.linspace(-2.0, 2.0, 201)
y = x**2 + 2 * x - 5 + tf.random.normal(shape=[201])


class Model(tf.Module):
    def __init__(self):
        self.w_q = tf.Variable(0.1)
        self.w_l = tf.Variable(0.2)
        self.b = tf.Variable(0.0)

    def __call__(self, x):
        return self.w_q * x**2 + self.w_l * x + self.b


quad_model = Model()
dataset = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(buffer_size=201, seed=0).batch(32)
for epoch in range(100):
    for x_batch, y_batch in dataset:
        with tf.GradientTape() as tape:  # place: framework
            batch_loss = tf.reduce_mean(tf.square(quad_model(x_batch) - y_batch))
        grads = tape.gradient(batch_loss, quad_model.variables)
        for g, v in zip(grads, quad_model.variables):
            v.assign_sub(0.01 * g)  # fault: assign, framework
plt.plot(x, quad_model(x))
plt.show()
