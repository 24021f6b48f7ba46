"""What travels in fewer bytes than it is computed in."""

import torch


class Compressor:
    """Base of compressors: `compress` gives what travels and what `decompress` needs to undo it."""

    @staticmethod
    def compress(tensor: torch.Tensor):
        raise NotImplementedError

    @staticmethod
    def decompress(tensor: torch.Tensor, context):
        raise NotImplementedError


class NoneCompressor(Compressor):
    @staticmethod
    def compress(tensor):
        return tensor, None

    @staticmethod
    def decompress(tensor, context):
        return tensor


class _HalfCompressor(Compressor):
    dtype: torch.dtype

    @classmethod
    def compress(cls, tensor):
        return (tensor.to(cls.dtype) if tensor.is_floating_point() else tensor), tensor.dtype

    @classmethod
    def decompress(cls, tensor, context):
        return tensor.to(context)


class FP16Compressor(_HalfCompressor):
    dtype = torch.float16


class BF16Compressor(_HalfCompressor):
    dtype = torch.bfloat16


class Compression:
    none = NoneCompressor
    fp16 = FP16Compressor  # of a range of 65,504
    bf16 = BF16Compressor  # of float32's range, with 8 bits of precision
