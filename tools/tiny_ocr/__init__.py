"""Parts of the trainer of the embedded OCR model (`tools/train_tiny_ocr.py`)."""
