import "../audit/property.test.ts";
