"""python train.py: a GAN in three files."""
import keras
import data
from models import build_critic, build_generator
from steps import WassersteinGAN

if __name__ == "__main__":
    gan = WassersteinGAN(build_critic(), build_generator(), latent=64)
    gan.compile(
        critic_optimizer=keras.optimizers.Adam(1e-4, beta_1=0.0),
        generator_optimizer=keras.optimizers.Adam(1e-4, beta_1=0.0),
    )
    gan.fit(data.images(), epochs=50, callbacks=[data.SaveImages()])
