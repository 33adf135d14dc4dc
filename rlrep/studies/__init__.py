"""The theory of contrastive learning, measured on the objectives, predictors and meters that train agents here."""
