import type { Matrix } from "../policy/matrix.ts";
import type { Environment } from "./environment.ts";
export function policiesHtml(_m: Matrix, _e: Environment, _h: string): string {
	return "";
}
