/** The one door to the library. Outside this repository it reads: `export * from "kvferry"`. */
export * from "../../transport/index.ts";
