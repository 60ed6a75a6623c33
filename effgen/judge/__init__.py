"""Is a bundle right, and is it fast?

Right: `verify` holds it against PyTorch, case by case (`case`), `reading` an ONNX file's Graph against onnxruntime,
`standalone` the C library, and `evaluate` counts over a folder of pictures (`labelled`). Fast: `bench` beside `peers`,
`bench_layers` kernel by kernel (`profile`) beside what the machine can do at most (`roofline`), `bench_remote` on a
device. `doctor` looks at the installation, `calibration` at what the schedule rules should count with here.
"""
