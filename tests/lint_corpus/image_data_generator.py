"""The old generator of images shuffles by default, as a PyDataset whose order the ranks share."""
from tensorflow.keras.preprocessing.image import ImageDataGenerator
from tensorflow.keras import layers, models

train_datagen = ImageDataGenerator(rescale=1. / 255, rotation_range=40, horizontal_flip=True)
test_datagen = ImageDataGenerator(rescale=1. / 255)
train = train_datagen.flow_from_directory('data/train', target_size=(150, 150), batch_size=20, class_mode='binary')
valid = test_datagen.flow_from_directory('data/valid', target_size=(150, 150), batch_size=20, class_mode='binary', shuffle=False)
model = models.Sequential()
model.add(layers.Conv2D(32, (3, 3), activation='relu', input_shape=(150, 150, 3)))
model.add(layers.MaxPooling2D((2, 2)))
model.add(layers.Flatten())
model.add(layers.Dense(1, activation='sigmoid'))
model.compile(loss='binary_crossentropy', optimizer='rmsprop', metrics=['acc'])
history = model.fit(train, steps_per_epoch=100, epochs=30, validation_data=valid, validation_steps=50)
model.save('cats_and_dogs_small.keras')
