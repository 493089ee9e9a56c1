/** AssemblyScript's number types, for the layout files that both compilers read. */
type u8 = number;
type u16 = number;
type u32 = number;
/** Only as a constant below 2^53. */
type u64 = number;
type i32 = number;
type f64 = number;
type usize = number;
