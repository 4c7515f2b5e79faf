"""Where voice converters that were saved before version 0.2.0 look for their classes."""

from augment.voice_conversion.encoders import WhisperContentEncoder as WhisperContentEncoder
