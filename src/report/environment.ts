/** Where a figure was measured. */
export interface Environment {
	/** Of this package. */
	readonly version: string;
	readonly node: string;
	readonly v8: string;
	readonly platform: string;
	readonly cpu: string;
	readonly cores: number;
	readonly memoryBytes: number;
	/** Runnable processes over the last minute: figures of a busy machine are worth less. */
	readonly load1: number;
	readonly date: string;
}

/** The environment in a line, and the engine that ran. @param engineHash undefined: none did */
export function describeEnvironment(env: Environment, engineHash?: string): string {
	const engine = engineHash === undefined ? "" : `, engine ${engineHash}`;
	return `coco-dma ${env.version}, Node ${env.node}, ${env.cpu}, ${env.cores} cores, ${env.platform}, load ${env.load1.toFixed(1)}, ${env.date}${engine}`;
}
