/** Engines of the audit build, and what their labels and logs say in short. */
import { Audit } from "../../src/audit/audit.ts";
import type { AuditEvent } from "../../src/audit/events.ts";
import { Engine } from "../../src/engine.ts";
import type { EngineOptions } from "../../src/setup.ts";

export const MIB = 2 ** 20;
/** The label of what the guest's CPU writes on private pages, and of what the host writes. */
export const GUEST = 1;
export const HOST = 255;

export interface Audited {
	readonly engine: Engine;
	readonly audit: Audit;
}

/** The audit of an engine that has one. */
export function auditOf({ audit }: Engine): Audit {
	if (!(audit instanceof Audit)) throw new Error("an engine without an audit");
	return audit;
}

/** 4 MiB of private RAM with a shared pool of 512 KiB at its top, unless told otherwise. */
export async function audited(options: Partial<EngineOptions> = {}): Promise<Audited> {
	const engine = await Engine.create({ ram: 4 * MIB, swiotlb: "256,1", ...options, build: "engine.audit" });
	return { engine, audit: auditOf(engine) };
}

/** Each run of labels of a range: label, bytes, label, bytes, ... */
export function runs(audit: Audit, gpa: number, bytes: number): number[] {
	const out: number[] = [];
	for (const label of audit.labelsAt(gpa, bytes)) {
		if (out.at(-2) === label) out[out.length - 1] = (out.at(-1) as number) + 1;
		else out.push(label, 1);
	}
	return out;
}

/** The latest event of a kind. */
export function last(audit: Audit, kind: AuditEvent["kind"]): AuditEvent {
	const event = audit.events().findLast((one) => one.kind === kind);
	if (event === undefined) throw new Error(`no ${kind}`);
	return event;
}

/** The guest's CPU writes something. */
export function write(engine: Engine, gpa: number, bytes: number): void {
	engine.ram.write(gpa, new Uint8Array(bytes).fill(0x5a));
}
