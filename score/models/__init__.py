"""Optional pre-trained models of video or audio; `loading` has them by setting."""
