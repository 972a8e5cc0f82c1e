-- Who asked to be told when they are called. Deleted once they were told, and when the sale closes.
CREATE TABLE call_notice (
    sale           text   NOT NULL,
    arrival_number bigint NOT NULL,
    customer       bytea  NOT NULL, -- encrypted
    PRIMARY KEY (sale, arrival_number)
);
