"""What a training reaches, where its time goes, and what it costs."""
