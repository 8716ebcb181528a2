// Numbers of things in sentences to people.

/** `1 message`, `3 messages`; with `many` where an s does not do: `counted(n, 'message waits', 'messages wait')`. */
export function counted(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}
