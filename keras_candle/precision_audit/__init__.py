"""What 16 bits do to a model: one batch, watched in float32, mixed_float16 and mixed_bfloat16."""
