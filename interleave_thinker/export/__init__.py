"""The document as something to read and pass on: a page, Markdown, a ZIP file, a Word file, a video."""
