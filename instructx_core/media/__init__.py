"""Files of pictures and clips in and out, with what must survive an edit; pixels and masks between them."""
