/** `coco-dma/synic`: the SynIC, messages, event flags and hypercalls that VMBus rests on, for both sides. */
export { Connections, type EventConnection, type MessageConnection } from "../synic/connections.ts";
export { GuestSynic, type ReceivedMessage, type SynicRegisters } from "../synic/guest.ts";
export { GuestCalls } from "../synic/guest-calls.ts";
export type { GuestPages } from "../synic/guest-pages.ts";
export { CallCode, controlWord, encodePost, encodeSignal } from "../synic/hypercall.ts";
export type { SynicInterrupt, SynicParty } from "../synic/interrupts.ts";
export { type Hypercall, type HypercallReport, type MachineOptions, SynicMachine } from "../synic/machine.ts";
export type { CallPath, Isolation, SynicPlatform } from "../synic/modes.ts";
export type { MessagePort } from "../synic/port.ts";
export { Msr, SintBit, sintMsr, VMBUS_SINT, VMBUS_VECTOR } from "../synic/registers.ts";
export { HvStatus, hvStatusName } from "../synic/status.ts";
export type { Synic } from "../synic/synic.ts";
