/** The path before every address of the service; empty on a host of its own. */
export const root = new URL("..", import.meta.url).pathname.slice(0, -1);
