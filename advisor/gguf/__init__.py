"""File -> Model, from the header alone.

    cursor.py      reading positions that never pass the end of a file
    header.py      bytes -> metadata and tensor list, checked at every step, string arrays skipped
    ggml_types.py  the sizes of ggml's tensor types, the names of llama.cpp's file types
    attention.py   metadata -> what the KV cache needs, by llama.cpp's rules per architecture
    vocabulary.py  metadata -> the vocabulary header with the defaults llama.cpp would fill in
    parts.py       the files of a split model
    model.py       all parts of a model -> Model

Nothing here loads weights or knows about memory, drafts or engines.
"""

from advisor.gguf.model import read_model
from advisor.gguf.vocabulary import TokenTable, read_token_table, read_token_texts

__all__ = ["TokenTable", "read_model", "read_token_table", "read_token_texts"]
