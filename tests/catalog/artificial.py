"""GGUF files of any catalogue shape, without weights: what llama.cpp's converter would write, all zeros.

Names and sizes of the tensors are those of ``shapes.tensors``; llama.cpp's quantizer refuses a file whose tensors it
does not know, and its choice of types is real.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import gguf
import llama_cpp
import numpy

from advisor.catalog.assign import role_of
from advisor.catalog.records import Shape
from advisor.catalog.shapes import TensorShape, sliding_layers, tensors


def write(shape: Shape, path: Path) -> Path:
    """A file of this shape in F16."""
    writer = gguf.GGUFWriter(path, shape.architecture)
    _metadata(writer, shape)
    for tensor in tensors(shape):
        writer.add_tensor(tensor.name, numpy.zeros(_dimensions(tensor, shape), _number_type(tensor)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def quantize(source: Path, destination: Path, quant: str, *, importance_of: Shape | None = None) -> Path:
    """llama.cpp's own quantizer, with an importance matrix of ones where the shape is given."""
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{quant}")
    params.nthread = 1
    if importance_of:
        params.imatrix = _importance(importance_of)
    llama_cpp.llama_log_set(_SILENT, ctypes.c_void_p(0))
    failed = llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(destination), ctypes.byref(params))
    assert not failed, f"llama.cpp could not quantize {source.name} to {quant}"
    return destination


def _importance(shape: Shape) -> ctypes.Array[llama_cpp.llama_model_imatrix_data]:
    """The same weight for every column: only the choice of types is looked at. Ends with an entry without a name."""
    found = []
    for tensor in tensors(shape):
        columns = tensor.elements_per_row * (shape.experts if "_exps." in tensor.name else 1)
        ones = (ctypes.c_float * columns)(*(1.0,) * columns)
        found.append(llama_cpp.llama_model_imatrix_data(tensor.name.encode(), ones, columns))
    return (llama_cpp.llama_model_imatrix_data * (len(found) + 1))(*found)


_SILENT = llama_cpp.llama_log_callback(lambda _level, _text, _data: None)


def suffix_of(name: str) -> str:
    """A tensor's name without its layer."""
    return name.split(".", 2)[2] if name.startswith("blk.") else name


def _dimensions(tensor: TensorShape, shape: Shape) -> tuple[int, ...]:
    rows = tensor.elements // tensor.elements_per_row
    if "_exps." in tensor.name and tensor.name.endswith(".weight"):
        return (shape.experts, rows // shape.experts, tensor.elements_per_row)
    return (rows, tensor.elements_per_row) if rows > 1 else (tensor.elements_per_row,)


def _number_type(tensor: TensorShape) -> type:
    return numpy.float32 if role_of(suffix_of(tensor.name)) == "unquantized" else numpy.float16


def _metadata(writer: gguf.GGUFWriter, shape: Shape) -> None:
    blocks = shape.layers + shape.nextn_layers
    writer.add_name("artificial")
    writer.add_block_count(blocks)
    writer.add_context_length(shape.context_length)
    writer.add_embedding_length(shape.embedding_length)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_head_count(shape.heads)
    _feed_forward(writer, shape)
    _attention(writer, shape)
    if shape.nextn_layers:
        writer.add_nextn_predict_layers(shape.nextn_layers)
    if shape.full_attention_interval:
        _recurrent(writer, shape)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([f"t{number}" for number in range(shape.vocabulary_size)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_chat_template("{{ messages }}")


def _feed_forward(writer: gguf.GGUFWriter, shape: Shape) -> None:
    shared_kv = shape.shared_kv_layers if shape.shared_kv_feed_forward_length else 0
    own = [shape.feed_forward_length] * (shape.layers - shared_kv)
    writer.add_feed_forward_length(
        own + [shape.shared_kv_feed_forward_length] * shared_kv if shared_kv else shape.feed_forward_length
    )
    if shape.experts:
        writer.add_expert_count(shape.experts)
        writer.add_expert_used_count(shape.experts_used)
        writer.add_expert_feed_forward_length(shape.expert_feed_forward_length)


def _attention(writer: gguf.GGUFWriter, shape: Shape) -> None:
    latent, head = shape.kv_lora_rank, shape.global_head_length or shape.head_length
    writer.add_key_length(latent + shape.rope_length if latent else head)
    writer.add_value_length(latent or head)
    if latent:
        writer.add_kv_lora_rank(latent)
        writer.add_key_length_mla(shape.head_length)
        writer.add_value_length_mla(shape.value_length)
    slides = sliding_layers(shape)
    if slides:
        writer.add_sliding_window(shape.sliding_window)
    if shape.architecture == "gemma4":
        writer.add_sliding_window_pattern(list(slides))
        writer.add_key_length_swa(shape.head_length)
        writer.add_value_length_swa(shape.head_length)
        writer.add_shared_kv_layers(shape.shared_kv_layers)
        writer.add_embedding_length_per_layer_input(shape.per_layer_embedding_length)
    if shape.global_kv_heads:
        writer.add_head_count_kv([shape.kv_heads if sliding else shape.global_kv_heads for sliding in slides])
    else:
        writer.add_head_count_kv(shape.kv_heads)


def _recurrent(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_full_attention_interval(shape.full_attention_interval)
    writer.add_rope_dimension_sections([1, 1, 1, 0])
    writer.add_ssm_conv_kernel(shape.ssm_conv_kernel)
    writer.add_ssm_inner_size(shape.ssm_inner_size)
    writer.add_ssm_state_size(shape.ssm_state_size)
    writer.add_ssm_group_count(shape.ssm_group_count)
    writer.add_ssm_time_step_rank(shape.ssm_time_step_rank)
