"""From a row to tensors: the chat, its tokens, the media. Knows no loaded model."""
