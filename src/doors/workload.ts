/** `coco-dma/workload`: what a trace says that devices were asked to do, and the devices that it may be replayed on. */
export { InputError } from "../input-error.ts";
export type { Source } from "../source.ts";
export { DEVICE_PRESETS, type DevicePreset, devicePresetNamed } from "../workload/presets.ts";
export { type ReadTraceOptions, readTrace } from "../workload/read.ts";
export { LOST_AFTER, type Request, type TraceCounters, type Workload } from "../workload/workload.ts";
