/* Text from anywhere into a document, so that it stays text. */
#pragma once

#include <stdio.h>

/* HTML and XML 1.0, in text and in quoted attributes. What XML cannot hold becomes U+FFFD. */
void escape_markup(FILE *f, const char *s);
/* One line of GitHub's Markdown, also in a table's cell: no markup, no mention, no link. */
void escape_markdown(FILE *f, const char *s);
/* JSON inside of a <script> element: nothing in it ends the element. json: as json_print() gives it. */
void escape_script(FILE *f, const char *json);
