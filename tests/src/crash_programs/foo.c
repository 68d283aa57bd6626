/* The library of crash.c. */
struct header {
	long unused[2];
	int length;
};

__attribute__((noipa)) static int length_of(const struct header *header)
{
	return header->length;
}

int parse_header(const char *bytes)
{
	return length_of((const struct header *)bytes) + 1;
}
