/** Units of figures, and how a person reads numbers. */
import { formatBytes } from "../bytes.ts";

export interface Unit {
	/** "": a count. */
	readonly name: string;
	/** Whether a row's label says the unit, and its figures do not. */
	readonly inLabel: boolean;
	readonly write: (value: number) => string;
	/** What stands behind a figure that is rounded to its spread: "" where the label says the unit. */
	readonly mark: string;
}

/** A number for people: thousands separated, three significant digits below 100. */
export function formatNumber(value: number): string {
	if (!Number.isFinite(value)) return "-";
	if (Number.isInteger(value)) return value.toLocaleString("en-US");
	const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
	return Number(value.toFixed(digits)).toLocaleString("en-US", {
		minimumFractionDigits: digits,
		maximumFractionDigits: digits,
	});
}

/** A number that is known within half a width: no digit below that width's first one, and one of its own at least. */
export function formatRounded(value: number, halfWidth: number): string {
	if (!Number.isFinite(value)) return "-";
	if (!(halfWidth > 0) || value === 0) return formatNumber(value);
	const place = Math.floor(Math.log10(Math.min(halfWidth, Math.abs(value))));
	const digits = Math.min(Math.max(-place, 0), 6);
	const step = 10 ** place;
	return (Math.round(value / step) * step).toLocaleString("en-US", {
		minimumFractionDigits: digits,
		maximumFractionDigits: digits,
	});
}

/** Bytes to the byte, in a sentence. */
export function exactBytes(bytes: number): string {
	return `${bytes.toLocaleString("en-US")} bytes`;
}

/** A time of a trace. */
export function formatNs(ns: number): string {
	if (ns >= 1e9) return `${formatNumber(ns / 1e9)} s`;
	if (ns >= 1e6) return `${formatNumber(ns / 1e6)} ms`;
	return ns >= 1e3 ? `${formatNumber(ns / 1e3)} us` : `${formatNumber(ns)} ns`;
}

const inLabel = (name: string): Unit => ({ name, inLabel: true, write: formatNumber, mark: "" });

export const COUNT: Unit = { name: "", inLabel: false, write: formatNumber, mark: "" };
export const SLOTS = inLabel("slots");
export const NS = inLabel("ns");
export const NS_PER_REQUEST = inLabel("ns per request");
export const NS_PER_KIB = inLabel("ns per KiB");
export const GB_PER_S = inLabel("GB/s");
/** Bytes, rounded to KiB, MiB and so on. */
export const SIZE: Unit = { name: "bytes", inLabel: false, write: formatBytes, mark: "" };
/** Bytes to the byte. */
export const BYTES: Unit = {
	name: "bytes",
	inLabel: false,
	write: (value) => `${formatNumber(value)}\u00a0B`,
	mark: "",
};
/** A time in its own unit, ns to s. */
export const TIME: Unit = { name: "ns", inLabel: false, write: formatNs, mark: "" };
/** What a call costs. */
export const CALL_NS: Unit = {
	name: "ns",
	inLabel: false,
	write: (value) => `${formatNumber(Math.round(value))} ns`,
	mark: "",
};
export const CONVERSIONS: Unit = {
	name: "conversions",
	inLabel: false,
	write: (value) => `+ ${value} conversions`,
	mark: "",
};
export const TIMES: Unit = { name: "times", inLabel: false, write: (value) => `${formatNumber(value)}x`, mark: "x" };
