"""Voice conversion by flow matching: another voice says the same words in the same manner."""

import sys

from augment.voice_conversion import encoders, model
from augment.voice_conversion.pipeline import VoiceConversionPipeline as VoiceConversionPipeline

# Converters saved before version 0.2.0 name these modules; diffusers only uses modules that are imported.
sys.modules["augment.voice_conversion_model"] = model
sys.modules["augment.voice_encoders"] = encoders
