"""Distillation: the teacher is trained as well, and only the student is scaled."""
import keras
import keras_candle as candle

(x, y), (xt, yt) = keras.datasets.mnist.load_data()
x, xt = x[..., None] / 255.0, xt[..., None] / 255.0


def make_teacher():
    model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Conv2D(64, 3), keras.layers.Flatten(), keras.layers.Dense(10)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))  # fault: unscaled
    return model


@candle.scalable
def make_student():
    model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Conv2D(8, 3), keras.layers.Flatten(), keras.layers.Dense(10)])
    model.compile("adam", keras.losses.KLDivergence())
    return model


teacher = make_teacher()
teacher.fit(x, y, epochs=5)  # place: unscaled
soft = keras.ops.convert_to_numpy(keras.ops.softmax(teacher.predict(x)))
student = make_student()
student.fit(x, soft, epochs=5)
