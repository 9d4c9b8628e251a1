"""What joins the client to other libraries: a module for each, with its extra."""
