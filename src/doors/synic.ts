/** `coco-dma/synic`: the SynIC, messages, event flags and hypercalls that VMBus rests on, for both sides. */
export { type Caller, Connections, type EventConnection, type MessageConnection } from "../synic/connections.ts";
export {
	GuestSynic,
	type GuestSynicOptions,
	type ReceivedMessage,
	type RegisterWrite,
	type SynicRegisters,
} from "../synic/guest.ts";
export { GuestCalls, type GuestCallsOptions } from "../synic/guest-calls.ts";
export type { GuestPages, PagesStatus } from "../synic/guest-pages.ts";
export {
	CallCode,
	controlWord,
	encodePost,
	encodeSignal,
	type PostInput,
	type SignalInput,
} from "../synic/hypercall.ts";
export type { InterruptQueue, SynicInterrupt, SynicParty } from "../synic/interrupts.ts";
export { type Hypercall, type HypercallReport, type MachineOptions, SynicMachine } from "../synic/machine.ts";
export type { CallPath, Isolation, SynicMode, SynicPlatform } from "../synic/modes.ts";
export type { MessagePort } from "../synic/port.ts";
export type { ProxyFilter } from "../synic/proxy.ts";
export { HvRegister, Msr, SintBit, sintMsr, VMBUS_SINT, VMBUS_VECTOR } from "../synic/registers.ts";
export { HvStatus, hvStatusName } from "../synic/status.ts";
export type { Synic, SynicMessage } from "../synic/synic.ts";
