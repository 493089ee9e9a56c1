/** The log: a ring of events, the oldest overwritten. */
import {
	AUDIT_EVENT_COUNT,
	AUDIT_EVENTS,
	AUDIT_MAX_EVENTS,
	AUDIT_NOW,
	EVENT_ACCEPTED_BYTES,
	EVENT_ATTRS,
	EVENT_DEVICE,
	EVENT_DIR,
	EVENT_FROM,
	EVENT_KIND,
	EVENT_LABEL,
	EVENT_LENGTH,
	EVENT_MAPPING,
	EVENT_RECORD_BYTES,
	EVENT_SHARED_BYTES,
	EVENT_STATE,
	EVENT_STATUS,
	EVENT_TIME,
	EVENT_TO,
} from "../layout/audit.ts";
import { block } from "./block.ts";

/** Logs an event, its other fields 0. @returns ptr of its record, valid until as many events as the ring holds came after it */
export function logEvent(kind: u32, device: i32, mapping: u32, to: f64, from: f64, bytes: u32): usize {
	const at = block();
	const count = load<u64>(at, AUDIT_EVENT_COUNT);
	store<u64>(at, count + 1, AUDIT_EVENT_COUNT);
	const place = u32(count) & (load<u32>(at, AUDIT_MAX_EVENTS) - 1);
	const event = at + load<u32>(at, AUDIT_EVENTS) + place * EVENT_RECORD_BYTES;
	store<u32>(event, kind, EVENT_KIND);
	store<i32>(event, device, EVENT_DEVICE);
	store<u32>(event, mapping, EVENT_MAPPING);
	store<i32>(event, 0, EVENT_STATUS);
	store<f64>(event, load<f64>(at, AUDIT_NOW), EVENT_TIME);
	store<f64>(event, to, EVENT_TO);
	store<f64>(event, from, EVENT_FROM);
	store<u32>(event, bytes, EVENT_LENGTH);
	store<u32>(event, 0, EVENT_ATTRS);
	store<u64>(event, 0, EVENT_SHARED_BYTES);
	store<u64>(event, 0, EVENT_ACCEPTED_BYTES);
	return event;
}

/** Tells an event the state of the page and the label that it is about. */
export function describe(event: usize, state: u32, label: u32): void {
	store<u8>(event, u8(state), EVENT_STATE);
	store<u8>(event, u8(label), EVENT_LABEL);
}

/** Tells an event its direction. */
export function setDirection(event: usize, dir: i32): void {
	store<u8>(event, u8(dir), EVENT_DIR);
}
