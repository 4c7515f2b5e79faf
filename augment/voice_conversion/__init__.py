"""Voice conversion by flow matching: the words and the manner of one voice, said by another."""

from augment.voice_conversion.pipeline import VoiceConversionPipeline as VoiceConversionPipeline
