/** The SynIC's registers: numbers and bits (Linux include/asm-generic/hyperv-tlfs.h and arch/x86/include/asm/hyperv-tlfs.h). */

/** Model-specific registers of x86-64; those of the nested hypervisor stand 0x1000 above. */
export const Msr = {
	SCONTROL: 0x40000080,
	SVERSION: 0x40000081,
	SIEFP: 0x40000082,
	SIMP: 0x40000083,
	EOM: 0x40000084,
	SINT0: 0x40000090,
} as const;

/** The same registers for HvGetVpRegisters and HvSetVpRegisters. */
export const HvRegister = {
	SINT0: 0xa0000,
	SCONTROL: 0xa0010,
	SVERSION: 0xa0011,
	SIEFP: 0xa0012,
	SIMP: 0xa0013,
	EOM: 0xa0014,
} as const;

const NESTED_OFFSET = 0x1000;
/** Interrupt sources of a SynIC. */
export const SINTS = 16;
/** VMBus's source of a guest. */
export const VMBUS_SINT = 2;
/** Linux's vector of it on x86-64. */
export const VMBUS_VECTOR = 0xf3;

/** Bits of a SINT register. */
export const SintBit = {
	VectorMask: 0xff,
	Masked: 1 << 16,
	AutoEoi: 1 << 17,
	Polling: 1 << 18,
	/** The paravisor's SynIC leaves this source to the hypervisor's. */
	Proxy: 1 << 20,
} as const;

/** Bit 0 of SCONTROL, SIMP and SIEFP. */
export const ENABLED = 1n;
/** SIMP and SIEFP: the page's gpa. */
export const PAGE_MASK = ~0xfffn & 0xffff_ffff_ffff_ffffn;

/** A SINT's register. */
export function sintMsr(sint: number, nested = false): number {
	return Msr.SINT0 + sint + (nested ? NESTED_OFFSET : 0);
}

const SIMPLE = new Map<number, number>([
	[HvRegister.SCONTROL, Msr.SCONTROL],
	[HvRegister.SVERSION, Msr.SVERSION],
	[HvRegister.SIEFP, Msr.SIEFP],
	[HvRegister.SIMP, Msr.SIMP],
	[HvRegister.EOM, Msr.EOM],
]);

/**
 * The MSR that a register number (MSR, nested MSR or HV_REGISTER) means to a SynIC.
 * @param nested whether the SynIC is that of a nested hypervisor, which has the nested MSRs and no others
 * @returns -1 for a number that is not one of its registers
 */
export function synicMsr(number: number, nested: boolean): number {
	if (number >= HvRegister.SINT0 && number < HvRegister.SINT0 + SINTS)
		return nested ? -1 : Msr.SINT0 + number - HvRegister.SINT0;
	const named = SIMPLE.get(number);
	if (named !== undefined) return nested ? -1 : named;
	const msr = nested ? number - NESTED_OFFSET : number;
	if (msr >= Msr.SINT0 && msr < Msr.SINT0 + SINTS) return msr;
	return msr >= Msr.SCONTROL && msr <= Msr.EOM ? msr : -1;
}

/** Name of a register for people: "SINT2". */
export function registerName(number: number): string {
	const msr = Math.max(synicMsr(number, false), synicMsr(number, true));
	if (msr >= Msr.SINT0) return `SINT${msr - Msr.SINT0}`;
	return Object.entries(Msr).find(([, at]) => at === msr)?.[0] ?? `0x${number.toString(16)}`;
}
