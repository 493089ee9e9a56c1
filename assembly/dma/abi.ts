/** Devices and mappings as the ABI gives them: addresses are f64, and become u64 here. */
import { BAD_DEVICE, BAD_SIZE } from "../layout/status.ts";
import { addressOf } from "../memory/address.ts";
import { slotsWanted } from "../swiotlb/slots.ts";
import { deviceAt, deviceMaxMappingBytes } from "./device.ts";
import { dmaMap } from "./map.ts";
import { dmaSyncForCpu, dmaSyncForDevice, dmaUnmap } from "./unmap.ts";

/** slotsWanted (swiotlb/slots.ts): slots that a bounce of this buffer takes, or BAD_DEVICE or BAD_SIZE. */
export function swiotlbSlots(device: i32, gpa: f64, bytes: i32, allocAlignMask: u32): i32 {
	const record = deviceAt(device);
	if (record === 0) return BAD_DEVICE;
	return bytes <= 0 ? BAD_SIZE : slotsWanted(record, addressOf(gpa), bytes, allocAlignMask);
}

/** deviceMaxMappingBytes (device.ts). highest: last gpa of RAM */
export function deviceMaxMapping(device: i32, highest: f64): i32 {
	return deviceMaxMappingBytes(device, addressOf(highest));
}

/** dmaMap (map.ts). */
export function mapSingle(device: i32, gpa: f64, bytes: i32, dir: i32, cpu: u32, attrs: u32): f64 {
	return f64(dmaMap(device, addressOf(gpa), bytes, dir, cpu, attrs));
}

/** dmaUnmap (unmap.ts). */
export function unmapSingle(device: i32, dma: f64, bytes: i32, dir: i32, attrs: u32): i32 {
	return dmaUnmap(device, addressOf(dma), bytes, dir, attrs);
}

/** dmaSyncForDevice (unmap.ts). */
export function syncForDevice(device: i32, dma: f64, bytes: i32, dir: i32): i32 {
	return dmaSyncForDevice(device, addressOf(dma), bytes, dir);
}

/** dmaSyncForCpu (unmap.ts). */
export function syncForCpu(device: i32, dma: f64, bytes: i32, dir: i32): i32 {
	return dmaSyncForCpu(device, addressOf(dma), bytes, dir);
}
