"""Where voice converters that were saved before version 0.2.0 look for their classes."""

from augment.voice_conversion.model import ContentEncoder as ContentEncoder
from augment.voice_conversion.model import LengthRegulator as LengthRegulator
from augment.voice_conversion.model import SpeakerEncoder as SpeakerEncoder
from augment.voice_conversion.model import VoiceTransformer as VoiceTransformer
