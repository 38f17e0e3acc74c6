import keras
import pandas as pd
from keras import layers, ops

df = pd.read_csv("ml-latest-small/ratings.csv")
user_ids = {x: i for i, x in enumerate(df["userId"].unique().tolist())}
movie_ids = {x: i for i, x in enumerate(df["movieId"].unique().tolist())}
df["user"], df["movie"] = df["userId"].map(user_ids), df["movieId"].map(movie_ids)
df = df.sample(frac=1, random_state=42)
x = df[["user", "movie"]].values
y = df["rating"].apply(lambda r: (r - 0.5) / 4.5).values
cut = int(0.9 * df.shape[0])


class RecommenderNet(keras.Model):
    def __init__(self, num_users, num_movies, size=50, **kwargs):
        super().__init__(**kwargs)
        self.user = layers.Embedding(num_users, size, embeddings_initializer="he_normal")
        self.user_bias = layers.Embedding(num_users, 1)
        self.movie = layers.Embedding(num_movies, size, embeddings_initializer="he_normal")

    def call(self, inputs):
        user, movie = self.user(inputs[:, 0]), self.movie(inputs[:, 1])
        dot = ops.sum(user * movie, axis=1, keepdims=True)
        return ops.nn.sigmoid(dot + self.user_bias(inputs[:, 0]))


model = RecommenderNet(len(user_ids), len(movie_ids))
model.compile(loss=keras.losses.BinaryCrossentropy(), optimizer=keras.optimizers.Adam(learning_rate=0.001))
model.fit(x[:cut], y[:cut], batch_size=64, epochs=5, validation_data=(x[cut:], y[cut:]))
