"""What `resource_xml` is made of: the layout of types, narrative, reading and writing."""
