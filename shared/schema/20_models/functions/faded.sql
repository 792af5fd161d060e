-- What is left of a mass after the days since, by the discount of a day.
CREATE OR REPLACE FUNCTION ailydian_faded(mass DOUBLE PRECISION, since TIMESTAMPTZ,
                                          discount DOUBLE PRECISION)
RETURNS DOUBLE PRECISION LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT mass * power(discount, greatest(extract(epoch FROM now() - since), 0)::float8 / 86400)
$$;
