/* The files of assets/, NUL-terminated, put into the program by the build. */
#pragma once

extern const char asset_report_css[];
extern const char asset_report_js[];
