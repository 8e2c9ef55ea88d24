/** Groups that the server keeps, as tests use them. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { unique, type CategoryMessage, type Client } from "./client.ts";

export type Presented = { epoch: number; position: number };
export type Positions = Record<string, Presented>;
export type Assigned = { partition: number; epoch: number; checkpoint: number };
export type Revoking = { partition: number; epoch: number; deadlineMs: number };
export type Membership = {
  member: string; generation: number; sessionMs: number; heartbeatMs: number; partitionCount: number; assigned: Assigned[]; revoking: Revoking[];
};
export type Page = Omit<Membership, "member" | "heartbeatMs" | "partitionCount"> & {
  messages: [...CategoryMessage, partition: number][];
  retries: [...CategoryMessage, partition: number, attempt: number, rev: number][];
  drained: { partition: number; stream: string; position: number; rev: number }[];
  upTo: Record<string, number>;
  fenced: number[];
};

/** A member of a group, with the epochs that it was told last. */
export class Member {
  private constructor(readonly client: Client, readonly group: string, public membership: Membership) {}

  static async join(client: Client, group: string, options: object = { instance: randomUUID() }): Promise<Member> {
    return new Member(client, group, await client.rpc("group.join", group, options));
  }

  get id(): string {
    return this.membership.member;
  }

  get partitions(): number[] {
    return this.membership.assigned.map(({ partition }) => partition);
  }

  get revoking(): number[] {
    return this.membership.revoking.map(({ partition }) => partition);
  }

  epoch(partition = 0): number {
    const owned = [...this.membership.assigned, ...this.membership.revoking].find((each) => each.partition === partition);
    assert.ok(owned, `partition ${partition} is not owned: ${JSON.stringify(this.membership)}`);
    return owned.epoch;
  }

  /** Positions by partition, with their epochs. */
  at(positions: Record<number, number>): Positions {
    return Object.fromEntries(Object.entries(positions).map(([p, position]) => [p, { epoch: this.epoch(Number(p)), position }]));
  }

  async heartbeat(options: object = {}): Promise<Membership & { fenced: number[] }> {
    const reply = await this.client.rpc("group.heartbeat", this.group, this.id, options);
    this.membership = reply;
    return reply;
  }

  async read(options: object = {}): Promise<Page> {
    const page = await this.client.rpc<Page>("group.read", this.group, this.id, options);
    this.membership = { ...this.membership, assigned: page.assigned, revoking: page.revoking, generation: page.generation };
    return page;
  }

  /** Gives back what stands under `revoking`. */
  async release(): Promise<void> {
    await this.heartbeat();
    await this.heartbeat({ released: Object.fromEntries(this.membership.revoking.map(({ partition, epoch }) => [partition, epoch])) });
  }

  park(position: number, options: object = {}, partition = 0): Promise<{ attempts: number }> {
    return this.client.rpc("group.park", this.group, this.id, { partition, epoch: this.epoch(partition), position, ...options });
  }

  handled(stream: string, position: number, options: object = {}, partition = 0): Promise<{ flowing: boolean; rev?: number }> {
    return this.client.rpc("group.handled", this.group, this.id, { partition, epoch: this.epoch(partition), stream, position, ...options });
  }

  leave(options: object = {}): Promise<object> {
    return this.client.rpc("group.leave", this.group, this.id, options);
  }
}

/** A new group over one category of its own. */
export async function newGroup(client: Client, options: object = {}): Promise<{ group: string; category: string }> {
  const [group, category] = [unique("group-"), unique("c")];
  await client.rpc("group.create", group, { categories: [category], partitions: 1, ...options });
  return { group, category };
}

/** The global positions of a page's messages or retries. */
export const placesOf = (rows: Page["messages"] | Page["retries"]): number[] => rows.map((row) => row[4]);
