// Nothing is left to declare: device.h comes before every source.
#pragma once
