"""Pre-trained models that look at a clip's picture or listen to its sound; `loading` has them by setting."""
