import tensorflow as tf
import matplotlib.pyplot as plt

train_ds = tf.keras.utils.image_dataset_from_directory(  # fault: order
    "flower_photos/train", image_size=(180, 180), batch_size=32)
val_ds = tf.keras.utils.image_dataset_from_directory(
    "flower_photos/val", image_size=(180, 180), batch_size=32, shuffle=False)
class_names = train_ds.class_names
train_ds = train_ds.cache().prefetch(tf.data.AUTOTUNE)

model = tf.keras.Sequential([
    tf.keras.layers.Rescaling(1./255, input_shape=(180, 180, 3)),
    tf.keras.layers.Conv2D(16, 3, padding='same', activation='relu'),
    tf.keras.layers.MaxPooling2D(),
    tf.keras.layers.Flatten(),
    tf.keras.layers.Dense(len(class_names))
])
model.compile(optimizer='adam',
              loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
              metrics=['accuracy'])
history = model.fit(train_ds, validation_data=val_ds, epochs=15)
acc = history.history['accuracy']
plt.figure(figsize=(8, 8))
plt.plot(range(15), acc, label='Training Accuracy')
plt.legend(loc='lower right')
plt.savefig('curves.png')  # fault: write
plt.show()
