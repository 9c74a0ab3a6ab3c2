"""Pictures: anything a notebook holds becomes decoded RGB pixels and a content hash."""
