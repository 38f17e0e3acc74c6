import numpy as np
import tensorflow as tf
import tqdm

SEED = 42


def generate_training_data(sequences, window_size, num_ns, vocab_size, seed):
    targets, contexts, labels = [], [], []
    table = tf.keras.preprocessing.sequence.make_sampling_table(vocab_size)
    for sequence in tqdm.tqdm(sequences):
        grams, _ = tf.keras.preprocessing.sequence.skipgrams(
            sequence, vocabulary_size=vocab_size, sampling_table=table, window_size=window_size, negative_samples=0, seed=seed)
        for target, context in grams:
            true_class = tf.expand_dims(tf.constant([context], dtype="int64"), 1)
            negative, _, _ = tf.random.log_uniform_candidate_sampler(
                true_classes=true_class, num_true=1, num_sampled=num_ns, unique=True, range_max=vocab_size, seed=seed)
            targets.append(target)
            contexts.append(tf.concat([tf.squeeze(true_class, 1), negative], 0))
            labels.append(tf.constant([1] + [0] * num_ns, dtype="int64"))
    return np.array(targets), np.array(contexts), np.array(labels)


class Word2Vec(tf.keras.Model):
    def __init__(self, vocab_size, embedding_dim):
        super(Word2Vec, self).__init__()
        self.target_embedding = tf.keras.layers.Embedding(vocab_size, embedding_dim)
        self.context_embedding = tf.keras.layers.Embedding(vocab_size, embedding_dim)

    def call(self, pair):
        target, context = pair
        return tf.einsum('be,bce->bc', self.target_embedding(target), self.context_embedding(context))


tf.random.set_seed(SEED)
np.random.seed(SEED)
targets, contexts, labels = generate_training_data(np.load("sequences.npy"), 2, 4, 4096, SEED)
dataset = tf.data.Dataset.from_tensor_slices(((targets, contexts), labels)).shuffle(10000).batch(1024, drop_remainder=True)
word2vec = Word2Vec(4096, 128)
word2vec.compile(optimizer='adam', loss=tf.keras.losses.CategoricalCrossentropy(from_logits=True), metrics=['accuracy'])
word2vec.fit(dataset, epochs=20)
