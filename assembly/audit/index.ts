/** The ABI of the audit, compiled together with the engine into the build `engine.audit` alone. */
export { auditInit } from "./block";
