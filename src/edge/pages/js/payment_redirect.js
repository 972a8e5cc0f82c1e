/** Whether the address of a bank's page, as the gateway gave it, is one that a browser may be sent to. */
export const is_page = (address) => /^https?:\/\//.test(address ?? "");
