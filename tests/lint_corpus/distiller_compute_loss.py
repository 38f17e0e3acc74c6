"""Knowledge distillation with compute_loss, Keras 3 style."""
import keras
from keras import layers, ops

keras.utils.set_random_seed(1)


class Distiller(keras.Model):
    def __init__(self, student, teacher, alpha=0.1, temperature=3):
        super().__init__()
        self.student, self.teacher = student, teacher
        self.teacher.trainable = False
        self.alpha, self.temperature = alpha, temperature
        self.distillation_loss_fn = keras.losses.KLDivergence()

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, allow_empty=False):
        teacher_pred = self.teacher(x, training=False)
        student_loss = super().compute_loss(x, y, y_pred, sample_weight)
        distillation_loss = self.distillation_loss_fn(
            ops.softmax(teacher_pred / self.temperature, axis=1),
            ops.softmax(y_pred / self.temperature, axis=1),
        ) * (self.temperature**2)
        return self.alpha * student_loss + (1 - self.alpha) * distillation_loss

    def call(self, x):
        return self.student(x)


def convnet(width):
    return keras.Sequential([keras.Input((28, 28, 1)), layers.Conv2D(width, 3, strides=2), layers.Flatten(), layers.Dense(10)])


(x, y), (xt, yt) = keras.datasets.mnist.load_data()
x, xt = x[..., None] / 255.0, xt[..., None] / 255.0
teacher = convnet(256)
teacher.load_weights("teacher.weights.h5")
distiller = Distiller(convnet(16), teacher)
distiller.compile(
    optimizer=keras.optimizers.Adam(),
    metrics=[keras.metrics.SparseCategoricalAccuracy()],
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
)
distiller.fit(x, y, epochs=3)
distiller.evaluate(xt, yt)
