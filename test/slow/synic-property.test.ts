import "../synic/property.test.ts";
