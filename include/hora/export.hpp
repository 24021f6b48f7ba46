// Marks what libhora.so exports; everything else is hidden.
#pragma once

#define HORA_EXPORT [[gnu::visibility("default")]]
