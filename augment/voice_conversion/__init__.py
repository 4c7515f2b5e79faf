"""Voice conversion by flow matching: the words and the manner of one voice, said by another."""

import sys

from augment.voice_conversion import encoders, model
from augment.voice_conversion.pipeline import VoiceConversionPipeline as VoiceConversionPipeline

# A converter that was saved before version 0.2.0 names these; diffusers takes only what has been imported.
sys.modules["augment.voice_conversion_model"] = model
sys.modules["augment.voice_encoders"] = encoders
